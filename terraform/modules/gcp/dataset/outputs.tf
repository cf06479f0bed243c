output "dataset_ref" {
  description = "What an instance needs to read the dataset."
  value = {
    name    = var.name
    kind    = "disk"
    address = ""
    path    = ""
    disks   = { for zone, disk in google_compute_disk.dataset : zone => disk.id }
  }
}
