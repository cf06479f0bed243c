# Where the instances of one hub live in a region: subnets without a way out but to the hub.

locals {
  tags = merge(var.tags, {
    "nightingale:hub"  = var.hub_id
    "nightingale:part" = "network"
  })
}

provider "aws" {
  region      = var.region
  max_retries = 2
}

resource "aws_vpc" "network" {
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = merge(local.tags, { Name = "nightingale-${var.hub_id}" })
}

# Without a rule: what is not given a group of ours reaches nothing.
resource "aws_default_security_group" "closed" {
  vpc_id = aws_vpc.network.id
  tags   = local.tags
}

resource "aws_subnet" "zone" {
  for_each = { for number, zone in var.zones : zone => number }

  vpc_id                  = aws_vpc.network.id
  availability_zone       = each.key
  cidr_block              = cidrsubnet(var.cidr, 4, each.value)
  map_public_ip_on_launch = false
  tags                    = merge(local.tags, { Name = "nightingale-${var.hub_id}-${each.key}" })
}

resource "aws_security_group" "instance" {
  name        = "nightingale-${var.hub_id}"
  description = "Instances of a Nightingale hub: the hub and the data, nothing else"
  vpc_id      = aws_vpc.network.id
  tags        = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "hub" {
  for_each = toset(var.hub_cidrs)

  security_group_id = aws_security_group.instance.id
  description       = "The hub reaches an instance's server"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 1024
  to_port           = 65535
  tags              = local.tags
}

# Terraform removes the rule that AWS gives every new group, which lets all out.
resource "aws_vpc_security_group_egress_rule" "hub" {
  for_each = toset(var.hub_cidrs)

  security_group_id = aws_security_group.instance.id
  description       = "An instance reaches the hub and the data"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 1
  to_port           = 65535
  tags              = local.tags
}

# File systems with datasets: NFS 4 for the hub's instances, and no way out.
resource "aws_security_group" "dataset" {
  name        = "nightingale-${var.hub_id}-dataset"
  description = "Datasets of a Nightingale hub: read by its instances, reaching nothing"
  vpc_id      = aws_vpc.network.id
  tags        = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "dataset" {
  security_group_id            = aws_security_group.dataset.id
  description                  = "An instance reads datasets"
  referenced_security_group_id = aws_security_group.instance.id
  ip_protocol                  = "tcp"
  from_port                    = 2049
  to_port                      = 2049
  tags                         = local.tags
}

resource "aws_vpc_security_group_egress_rule" "dataset" {
  security_group_id            = aws_security_group.instance.id
  description                  = "An instance reads datasets"
  referenced_security_group_id = aws_security_group.dataset.id
  ip_protocol                  = "tcp"
  from_port                    = 2049
  to_port                      = 2049
  tags                         = local.tags
}
