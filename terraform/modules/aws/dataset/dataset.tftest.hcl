mock_provider "aws" {}

variables {
  name     = "ecg"
  hub_id   = "test"
  region   = "us-east-1"
  zones    = ["us-east-1a", "us-east-1b"]
  snapshot = "backup-0123456789abcdef0"
  disk_gib = 200
  network_ref = {
    id       = "network"
    subnets  = { "us-east-1a" = "subnet-a", "us-east-1b" = "subnet-b" }
    cidr     = "10.64.0.0/16"
    firewall = "firewall"
    storage  = "storage"
    group    = ""
  }
}

run "no_instance_can_write" {
  command = plan

  assert {
    condition     = aws_fsx_openzfs_file_system.dataset.root_volume_configuration[0].read_only
    error_message = "The root volume is read-only."
  }

  assert {
    condition     = alltrue([for export in tolist(aws_fsx_openzfs_file_system.dataset.root_volume_configuration[0].nfs_exports[0].client_configurations) : contains(export.options, "ro") && !contains(export.options, "rw")])
    error_message = "Each export is read-only."
  }

  assert {
    condition     = alltrue([for export in tolist(aws_fsx_openzfs_file_system.dataset.root_volume_configuration[0].nfs_exports[0].client_configurations) : export.clients == "10.64.0.0/16"])
    error_message = "Exports are for the network alone."
  }
}
