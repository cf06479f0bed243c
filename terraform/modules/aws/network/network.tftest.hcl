mock_provider "aws" {}

variables {
  hub_id    = "test"
  region    = "us-east-1"
  zones     = ["us-east-1a", "us-east-1b"]
  group     = ""
  hub_cidrs = ["10.0.0.0/24"]
}

run "nothing_but_the_hub_and_the_data_is_reached" {
  command = apply

  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_egress_rule.hub : rule.cidr_ipv4 == "10.0.0.0/24"])
    error_message = "Egress is to the hub alone."
  }

  assert {
    condition     = length(aws_vpc_security_group_egress_rule.hub) == 1
    error_message = "There is one way out for each of hub_cidrs."
  }

  assert {
    condition     = aws_vpc_security_group_egress_rule.dataset.from_port == 2049 && aws_vpc_security_group_egress_rule.dataset.to_port == 2049 && aws_vpc_security_group_egress_rule.dataset.cidr_ipv4 == null
    error_message = "Datasets are reached by NFS and by their group."
  }

  assert {
    condition     = length(aws_default_security_group.closed.egress) == 0 && length(aws_default_security_group.closed.ingress) == 0
    error_message = "What has no group of ours reaches nothing."
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.zone : !subnet.map_public_ip_on_launch])
    error_message = "No subnet gives public addresses."
  }
}

run "the_whole_internet_is_refused" {
  command = plan

  variables {
    hub_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.hub_cidrs]
}
