# One instance, its owner's home attached to it, and each dataset read-only.
#
# Whatever changes later, the instance stays the same one: only its type is changed, in place.

locals {
  tags = merge(var.tags, {
    "nightingale:hub"      = var.hub_id
    "nightingale:instance" = var.instance_id
    "nightingale:user"     = var.owner_hash
  })
  # Labels of Google Cloud have no colon.
  labels = { for name, value in local.tags : replace(name, ":", "-") => value }
  # n1-standard-4+1xT4: GPUs that are added; other types have theirs built in.
  machine_type = split("+", var.size.type)[0]
  added        = try(regex("[+]([0-9]+)x([A-Z][0-9]+)$", var.size.type), null)
}

provider "google" {
  project = var.network_ref.group
  region  = var.region
}

resource "google_compute_instance" "instance" {
  name                      = var.instance_id
  zone                      = var.home_ref.zone
  machine_type              = local.machine_type
  allow_stopping_for_update = true
  can_ip_forward            = false
  labels                    = local.labels

  metadata = {
    nightingale = jsonencode(merge(var.bootstrap, {
      datasets = jsonencode([for each in var.datasets : { name = each.name, kind = "disk", device = "google-dataset-${each.name}" }])
    }))
    block-project-ssh-keys = "TRUE"
    enable-oslogin         = "TRUE"
    serial-port-enable     = "FALSE"
  }

  boot_disk {
    auto_delete = true

    initialize_params {
      image  = var.image
      size   = 64
      type   = "pd-balanced"
      labels = local.labels
    }
  }

  attached_disk {
    source      = var.home_ref.id
    device_name = "home"
    mode        = "READ_WRITE"
  }

  dynamic "attached_disk" {
    for_each = var.datasets
    content {
      source      = attached_disk.value.disks[var.home_ref.zone]
      device_name = "dataset-${attached_disk.value.name}"
      mode        = "READ_ONLY"
    }
  }

  dynamic "guest_accelerator" {
    for_each = local.added == null ? [] : [local.added]
    content {
      count = tonumber(guest_accelerator.value[0])
      type  = "nvidia-tesla-${lower(guest_accelerator.value[1])}"
    }
  }

  # Without access_config: no public address.
  network_interface {
    subnetwork = var.network_ref.subnets[var.home_ref.zone]
  }

  scheduling {
    # An instance with a GPU can't be moved while it runs.
    on_host_maintenance         = "TERMINATE"
    automatic_restart           = !var.spot
    preemptible                 = var.spot
    provisioning_model          = var.spot ? "SPOT" : "STANDARD"
    instance_termination_action = var.spot ? "STOP" : null
  }

  # It has no rights; the cloud signs the instance's identity in its name.
  service_account {
    email  = var.network_ref.firewall
    scopes = ["https://www.googleapis.com/auth/userinfo.email"]
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  lifecycle {
    # What would replace it is over once it runs: a newer image, another disk, a nonce for the next.
    ignore_changes = [boot_disk, metadata]
  }
}
