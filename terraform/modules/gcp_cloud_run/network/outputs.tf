output "network_ref" {
  description = "What an instance needs to be put into the network."
  value = {
    id       = google_compute_network.network.id
    subnets  = { for zone in var.zones : zone => google_compute_subnetwork.zone.id }
    cidr     = var.cidr
    firewall = google_service_account.instance.email
    storage  = google_netapp_storage_pool.storage.name
    group    = var.group
  }
  # Nothing is put into the network before its rules hold.
  depends_on = [
    google_compute_firewall.hub_in,
    google_compute_firewall.hub_out,
    google_compute_firewall.none_out,
  ]
}
