variables {
  name     = "ecg"
  hub_id   = "test"
  region   = "europe-west4"
  zones    = ["europe-west4-a", "europe-west4-b"]
  snapshot = "projects/p/global/snapshots/ecg"
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

run "each_zone_has_its_disk" {
  command = apply

  assert {
    condition     = length(google_compute_disk.dataset) == 2 && alltrue([for disk in google_compute_disk.dataset : disk.snapshot == "projects/p/global/snapshots/ecg"])
    error_message = "Each zone has a disk of the snapshot."
  }
}
