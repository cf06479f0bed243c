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

run "the_home_is_the_networks_alone" {
  command = apply

  assert {
    condition     = alltrue([for rule in google_netapp_volume.home.export_policy[0].rules : rule.allowed_clients == "10.64.0.0/16"])
    error_message = "The export is for the network alone."
  }

  assert {
    condition     = output.home_ref.address == "10.64.128.5" && startswith(output.home_ref.path, "/nightingale-")
    error_message = "It says where it is mounted from."
  }
}

run "no_fraction_of_a_gib" {
  command = plan

  variables {
    disk_gib = 1.5
  }

  expect_failures = [var.disk_gib]
}
