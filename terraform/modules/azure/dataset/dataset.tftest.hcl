variables {
  name     = "ecg"
  hub_id   = "test"
  region   = "westeurope"
  zones    = ["1", "2"]
  snapshot = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/snapshots/ecg"
  disk_gib = 200
  network_ref = {
    id       = "network"
    subnets  = { "1" = "subnet-a", "2" = "subnet-b" }
    cidr     = "10.64.0.0/16"
    firewall = "firewall"
    storage  = "storage"
    group    = "nightingale"
  }
}

run "the_snapshot_is_closed" {
  command = apply

  assert {
    condition     = azurerm_snapshot.dataset.network_access_policy == "DenyAll" && !azurerm_snapshot.dataset.public_network_access_enabled
    error_message = "Nobody downloads it."
  }

  assert {
    condition     = output.dataset_ref.disks["2"] == azurerm_snapshot.dataset.id
    error_message = "It is there in every zone."
  }
}
