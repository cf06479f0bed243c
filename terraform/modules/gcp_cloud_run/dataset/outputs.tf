output "dataset_ref" {
  description = "What an instance needs to read the dataset."
  value = {
    name    = var.name
    kind    = "nfs"
    address = split(":", google_netapp_volume.dataset.mount_options[0].export_full)[0]
    path    = split(":", google_netapp_volume.dataset.mount_options[0].export_full)[1]
    disks   = {}
  }
}
