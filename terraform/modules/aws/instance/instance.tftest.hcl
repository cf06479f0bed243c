mock_provider "aws" {}

variables {
  instance_id = "i-0123456789ab"
  hub_id      = "test"
  owner_hash  = "0123456789abcdef"
  region      = "us-east-1"
  size        = { type = "g4dn.xlarge", vcpus = 4, gpu = "S", disk_gib = 50 }
  image       = "ami-12c6146b"
  home_ref    = { id = "home", zone = "us-east-1a", address = "10.64.128.4", path = "/home" }
  datasets    = [{ name = "ecg", kind = "nfs", address = "10.64.128.5", path = "/ecg", disks = {} }]
  bootstrap   = { hub_url = "https://hub.example/", nonce = "n" }
  tags        = { "nightingale:server-hash" = "abc" }
  network_ref = {
    id       = "network"
    subnets  = { "us-east-1a" = "subnet-a", "us-east-1b" = "subnet-b" }
    cidr     = "10.64.0.0/16"
    firewall = "firewall"
    storage  = "storage"
    group    = ""
  }
}

run "the_instance_is_closed" {
  command = plan

  assert {
    condition     = !aws_instance.instance.associate_public_ip_address
    error_message = "It has no public address."
  }

  assert {
    condition     = aws_instance.instance.metadata_options[0].http_tokens == "required" && aws_instance.instance.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "Metadata needs a token, one hop away at most."
  }

  assert {
    condition     = aws_instance.instance.root_block_device[0].encrypted
    error_message = "The disk is encrypted."
  }

  assert {
    condition     = aws_instance.instance.vpc_security_group_ids == toset(["firewall"])
    error_message = "It is behind the network's rules alone."
  }

  assert {
    condition     = keys(jsondecode(aws_instance.instance.user_data)) == ["datasets", "hub_url", "nonce"]
    error_message = "It is told the hub, its nonce and its datasets."
  }
}

run "a_type_that_is_none_is_refused" {
  command = plan

  variables {
    size = { type = "; rm -rf /", vcpus = 1, gpu = "none", disk_gib = 1 }
  }

  expect_failures = [var.size]
}

run "an_image_that_is_none_is_refused" {
  command = plan

  variables {
    image = "latest"
  }

  expect_failures = [var.image]
}

run "a_dataset_of_another_kind_is_refused" {
  command = plan

  variables {
    datasets = [{ name = "ecg", kind = "bucket", address = "", path = "", disks = {} }]
  }

  expect_failures = [var.datasets]
}
