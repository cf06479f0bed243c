variables {
  home_id    = "0123456789abcdef"
  hub_id     = "test"
  owner_hash = "0123456789abcdef"
  region     = "europe-west4"
  zones      = ["europe-west4-a", "europe-west4-b"]
  disk_gib   = 50
  network_ref = {
    id       = "network"
    subnets  = { "europe-west4-a" = "subnet-a", "europe-west4-b" = "subnet-b" }
    cidr     = "10.64.0.0/16"
    firewall = "nightingale-0123456789ab@nightingale-test.iam.gserviceaccount.com"
    storage  = "storage"
    group    = "nightingale-test"
  }
}

run "the_home_is_labelled" {
  command = apply

  assert {
    condition     = google_compute_disk.home.labels["nightingale-hub"] == "test" && google_compute_disk.home.labels["nightingale-home"] == "0123456789abcdef"
    error_message = "The disk says whose it is."
  }
}

run "no_fraction_of_a_gib" {
  command = plan

  variables {
    disk_gib = 1.5
  }

  expect_failures = [var.disk_gib]
}
