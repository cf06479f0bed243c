output "dataset_ref" {
  description = "What an instance needs to read the dataset."
  value = {
    name    = var.name
    kind    = "path"
    address = ""
    path    = var.snapshot
    disks   = {}
  }
}
