# A dataset: one file system of OpenZFS that many instances read at once and none can write to.
#
# The export is read-only where the instances cannot change it, at the storage.

locals {
  tags = merge(var.tags, {
    "nightingale:hub"     = var.hub_id
    "nightingale:part"    = "dataset"
    "nightingale:dataset" = var.name
  })
}

provider "aws" {
  region      = var.region
  max_retries = 2
}

resource "aws_fsx_openzfs_file_system" "dataset" {
  backup_id                       = var.snapshot
  storage_capacity                = max(64, var.disk_gib)
  deployment_type                 = "SINGLE_AZ_2"
  throughput_capacity             = 320
  subnet_ids                      = [var.network_ref.subnets[var.zones[0]]]
  security_group_ids              = [var.network_ref.storage]
  automatic_backup_retention_days = 0
  # The snapshot that it was made from stays.
  skip_final_backup = true
  tags              = merge(local.tags, { Name = "nightingale-${var.hub_id}-${var.name}" })

  root_volume_configuration {
    read_only              = true
    copy_tags_to_snapshots = true
    data_compression_type  = "LZ4"

    nfs_exports {
      client_configurations {
        clients = var.network_ref.cidr
        options = ["ro", "crossmnt", "root_squash"]
      }
    }
  }
}
