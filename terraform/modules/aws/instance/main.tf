# One instance, and its owner's home attached to it.
#
# Whatever changes later, the instance stays the same one: only its type is changed, in place.

locals {
  tags = merge(var.tags, {
    "nightingale:hub"      = var.hub_id
    "nightingale:instance" = var.instance_id
    "nightingale:user"     = var.owner_hash
  })
}

provider "aws" {
  region = var.region
  # Lack of capacity is told at once instead of being retried for minutes.
  max_retries = 2
}

resource "aws_instance" "instance" {
  ami                                  = var.image
  instance_type                        = var.size.type
  subnet_id                            = var.network_ref.subnets[var.home_ref.zone]
  vpc_security_group_ids               = [var.network_ref.firewall]
  associate_public_ip_address          = false
  instance_initiated_shutdown_behavior = "stop"
  user_data = jsonencode(merge(var.bootstrap, {
    datasets = jsonencode([for each in var.datasets : { name = each.name, kind = "nfs", device = "${each.address}:${each.path}" }])
  }))
  tags = merge(local.tags, { Name = "nightingale-${var.instance_id}" })

  dynamic "instance_market_options" {
    for_each = var.spot ? ["spot"] : []
    content {
      market_type = instance_market_options.value
    }
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "disabled"
  }

  root_block_device {
    volume_type           = "gp3"
    volume_size           = 30
    encrypted             = true
    delete_on_termination = true
    tags                  = local.tags
  }

  lifecycle {
    # What would replace it is over once it runs: a newer image, another disk, a nonce for the next.
    ignore_changes = [ami, associate_public_ip_address, root_block_device, user_data]
  }
}

resource "aws_volume_attachment" "home" {
  device_name                    = "/dev/sdh"
  volume_id                      = var.home_ref.id
  instance_id                    = aws_instance.instance.id
  stop_instance_before_detaching = true
}
