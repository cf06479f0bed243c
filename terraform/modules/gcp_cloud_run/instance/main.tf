# One instance as a service of Cloud Run, always one container, with its owner's home on NFS.
#
# A connection lives 60 minutes at most, and there is no disk. Each change of the type is a new
# revision: the container ends and another starts with the same home.

locals {
  tags = merge(var.tags, {
    "nightingale:hub"      = var.hub_id
    "nightingale:instance" = var.instance_id
    "nightingale:user"     = var.owner_hash
  })
  # Labels of Google Cloud have no colon.
  labels = { for name, value in local.tags : replace(name, ":", "-") => value }
  # cpu-4-memory-16-gpu-nvidia-l4
  type = regex("^cpu-([0-9]+)-memory-([0-9]+)(?:-gpu-([a-z0-9-]+))?$", var.size.type)
}

provider "google" {
  project = var.network_ref.group
  region  = var.region
}

resource "google_cloud_run_v2_service" "instance" {
  name                = var.instance_id
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_INTERNAL_ONLY"
  deletion_protection = false
  labels              = local.labels
  # Who may come in is the server's own to say, as in every other cloud: it asks the hub.
  invoker_iam_disabled = true

  template {
    service_account                  = var.network_ref.firewall
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    timeout                          = "3600s"
    session_affinity                 = true
    max_instance_request_concurrency = 1000
    gpu_zonal_redundancy_disabled    = local.type[2] == null ? null : true
    labels                           = local.labels

    scaling {
      min_instance_count = 1
      max_instance_count = 1
    }

    vpc_access {
      egress = "ALL_TRAFFIC"

      network_interfaces {
        network    = var.network_ref.id
        subnetwork = var.network_ref.subnets[var.home_ref.zone]
        tags       = [split("@", var.network_ref.firewall)[0]]
      }
    }

    dynamic "node_selector" {
      for_each = local.type[2] == null ? [] : [local.type[2]]
      content {
        accelerator = node_selector.value
      }
    }

    containers {
      image = var.image

      resources {
        cpu_idle          = false
        startup_cpu_boost = true
        limits = merge(
          { cpu = local.type[0], memory = "${local.type[1]}Gi" },
          local.type[2] == null ? {} : { "nvidia.com/gpu" = "1" },
        )
      }

      ports {
        container_port = 8888
      }

      env {
        name = "NIGHTINGALE_BOOT"
        value = jsonencode(merge(var.bootstrap, {
          datasets = jsonencode([for each in var.datasets : { name = each.name, kind = "nfs", device = "/run/nightingale/datasets/${each.name}" }])
        }))
      }

      volume_mounts {
        name       = "home"
        mount_path = "/home/researcher"
      }

      # Below a directory that is closed to all but the agent, which serves them through the audit.
      dynamic "volume_mounts" {
        for_each = var.datasets
        content {
          name       = "dataset-${volume_mounts.value.name}"
          mount_path = "/run/nightingale/datasets/${volume_mounts.value.name}"
        }
      }
    }

    volumes {
      name = "home"

      nfs {
        server    = var.home_ref.address
        path      = var.home_ref.path
        read_only = false
      }
    }

    dynamic "volumes" {
      for_each = var.datasets
      content {
        name = "dataset-${volumes.value.name}"

        nfs {
          server    = volumes.value.address
          path      = volumes.value.path
          read_only = true
        }
      }
    }
  }
}
