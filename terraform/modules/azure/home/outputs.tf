output "home_ref" {
  description = "What an instance needs to have the home."
  value = {
    id      = azurerm_managed_disk.home.id
    zone    = azurerm_managed_disk.home.zone
    address = ""
    path    = ""
  }
}
