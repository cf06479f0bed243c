variables {
  name     = "ecg"
  hub_id   = "test"
  region   = "europe-west4"
  zones    = ["europe-west4-a", "europe-west4-b"]
  snapshot = "projects/p/locations/europe-west4-a/volumes/v/snapshots/ecg"
  disk_gib = 200
  network_ref = {
    id       = "network"
    subnets  = { "europe-west4-a" = "subnet-a", "europe-west4-b" = "subnet-b" }
    cidr     = "10.64.0.0/16"
    firewall = "nightingale-0123456789ab@nightingale-test.iam.gserviceaccount.com"
    storage  = "storage"
    group    = "nightingale-test"
  }
}

run "no_instance_can_write" {
  command = apply

  assert {
    condition     = alltrue([for rule in google_netapp_volume.dataset.export_policy[0].rules : rule.access_type == "READ_ONLY" && rule.has_root_access == "false" && rule.allowed_clients == "10.64.0.0/16"])
    error_message = "The export is read-only, and for the network alone."
  }
}
