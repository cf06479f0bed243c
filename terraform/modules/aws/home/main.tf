# A researcher's files: a volume that outlives every instance that it is attached to.
# A resource named "home" is never deleted or replaced but when the home itself is to go.

locals {
  tags = merge(var.tags, {
    "nightingale:hub"  = var.hub_id
    "nightingale:part" = "home"
    "nightingale:home" = var.home_id
    "nightingale:user" = var.owner_hash
  })
}

provider "aws" {
  region      = var.region
  max_retries = 2
}

resource "aws_ebs_volume" "home" {
  availability_zone = var.zones[0]
  size              = var.disk_gib
  type              = "gp3"
  encrypted         = true
  tags              = merge(local.tags, { Name = "nightingale-${var.hub_id}-${var.home_id}" })

  lifecycle {
    # A volume can't change its zone; another list of zones must not ask for a new volume.
    ignore_changes = [availability_zone]
  }
}
