output "dataset_ref" {
  description = "What an instance needs to read the dataset."
  value = {
    name    = var.name
    kind    = "snapshot"
    address = ""
    path    = ""
    disks   = { for zone in var.zones : zone => azurerm_snapshot.dataset.id }
  }
}
