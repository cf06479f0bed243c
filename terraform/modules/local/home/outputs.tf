output "home_ref" {
  description = "What an instance needs to have the home."
  value = {
    id      = local.path
    zone    = var.zones[0]
    address = ""
    path    = local.path
  }
}
