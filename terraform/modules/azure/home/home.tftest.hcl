variables {
  home_id    = "0123456789abcdef"
  hub_id     = "test"
  owner_hash = "0123456789abcdef"
  region     = "westeurope"
  zones      = ["1", "2"]
  disk_gib   = 50
  network_ref = {
    id       = "network"
    subnets  = { "1" = "subnet-a", "2" = "subnet-b" }
    cidr     = "10.64.0.0/16"
    firewall = "firewall"
    storage  = "storage"
    group    = "nightingale"
  }
}

run "the_home_is_closed" {
  command = apply

  assert {
    condition     = azurerm_managed_disk.home.network_access_policy == "DenyAll" && !azurerm_managed_disk.home.public_network_access_enabled
    error_message = "Nobody downloads the disk."
  }
}

run "no_fraction_of_a_gib" {
  command = plan

  variables {
    disk_gib = 1.5
  }

  expect_failures = [var.disk_gib]
}
