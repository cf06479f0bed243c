mock_provider "aws" {}

variables {
  home_id    = "0123456789abcdef"
  hub_id     = "test"
  owner_hash = "0123456789abcdef"
  region     = "us-east-1"
  zones      = ["us-east-1a", "us-east-1b"]
  disk_gib   = 50
  network_ref = {
    id       = "network"
    subnets  = { "us-east-1a" = "subnet-a", "us-east-1b" = "subnet-b" }
    cidr     = "10.64.0.0/16"
    firewall = "firewall"
    storage  = "storage"
    group    = ""
  }
}

run "the_home_is_encrypted" {
  command = plan

  assert {
    condition     = aws_ebs_volume.home.encrypted
    error_message = "The volume is encrypted."
  }
}

run "no_fraction_of_a_gib" {
  command = plan

  variables {
    disk_gib = 1.5
  }

  expect_failures = [var.disk_gib]
}
