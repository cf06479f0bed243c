output "dataset_ref" {
  description = "What an instance needs to read the dataset."
  value = {
    name    = var.name
    kind    = "nfs"
    address = aws_fsx_openzfs_file_system.dataset.dns_name
    path    = "/fsx"
    disks   = {}
  }
}
