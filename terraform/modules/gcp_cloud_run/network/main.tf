# Where the instances of one hub live in a region: no way out but to the hub and the shares.

locals {
  tags = merge(var.tags, {
    "nightingale:hub"  = var.hub_id
    "nightingale:part" = "network"
  })
  # Labels of Google Cloud have no colon.
  labels = { for name, value in local.tags : replace(name, ":", "-") => value }
  # The upper half is the storage's, the lower the instances'.
  storage_cidr = cidrsubnet(var.cidr, 1, 1)
  name         = "nightingale-${substr(sha256("${var.hub_id}/${var.region}"), 0, 12)}"
}

provider "google" {
  project = var.group
  region  = var.region
}

resource "google_compute_network" "network" {
  name                    = local.name
  description             = "Instances of the Nightingale hub ${var.hub_id}"
  auto_create_subnetworks = false
  # Without a route to the internet: the hub is reached by what its operator connects.
  delete_default_routes_on_create = true
}

# One for all zones: a subnetwork of Google Cloud spans its region.
resource "google_compute_subnetwork" "zone" {
  name                     = local.name
  network                  = google_compute_network.network.id
  region                   = var.region
  ip_cidr_range            = cidrsubnet(var.cidr, 1, 0)
  private_ip_google_access = false

  log_config {
    metadata = "INCLUDE_ALL_METADATA"
  }
}

# What instances are: an account without a single right, by which the cloud vouches for them.
resource "google_service_account" "instance" {
  account_id   = local.name
  display_name = "Instances of the Nightingale hub ${var.hub_id}"
}

resource "google_compute_firewall" "hub_in" {
  name          = "${local.name}-hub-in"
  description   = "The hub reaches an instance's server"
  network       = google_compute_network.network.id
  direction     = "INGRESS"
  priority      = 1000
  source_ranges = var.hub_cidrs

  target_tags = [local.name]

  allow {
    protocol = "tcp"
    ports    = ["1024-65535"]
  }
}

resource "google_compute_firewall" "hub_out" {
  name               = "${local.name}-hub-out"
  description        = "An instance reaches the hub and the data"
  network            = google_compute_network.network.id
  direction          = "EGRESS"
  priority           = 1000
  destination_ranges = concat(var.hub_cidrs, [local.storage_cidr])

  target_tags = [local.name]

  allow {
    protocol = "tcp"
  }
}

# Google Cloud lets all out unless told otherwise. This holds for whatever is in the network.
resource "google_compute_firewall" "none_out" {
  name               = "${local.name}-none-out"
  description        = "Nothing else is reached"
  network            = google_compute_network.network.id
  direction          = "EGRESS"
  priority           = 65000
  destination_ranges = ["0.0.0.0/0"]

  deny {
    protocol = "all"
  }

  log_config {
    metadata = "INCLUDE_ALL_METADATA"
  }
}

# Homes and datasets are shares of one pool. NetApp sells pools from 1 TiB on.
resource "google_compute_global_address" "storage" {
  name          = "${local.name}-storage"
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  network       = google_compute_network.network.id
  address       = cidrhost(local.storage_cidr, 0)
  prefix_length = tonumber(split("/", local.storage_cidr)[1])
  labels        = local.labels
}

resource "google_service_networking_connection" "storage" {
  network                 = google_compute_network.network.id
  service                 = "netapp.servicenetworking.goog"
  reserved_peering_ranges = [google_compute_global_address.storage.name]
}

resource "google_netapp_storage_pool" "storage" {
  name          = local.name
  location      = var.zones[0]
  service_level = "FLEX"
  capacity_gib  = "1024"
  network       = google_compute_network.network.id
  labels        = local.labels

  depends_on = [google_service_networking_connection.storage]
}
