# One instance as processes of this machine.
#
# Creating and destroying are two resources: Terraform skips the destroy provisioner of a resource
# whose creation failed or was interrupted, and the processes would stay. The guard is in the state
# before the first of them starts, so a destroy always runs `down`, however the apply ended.
# Values go through the environment, never into a command's text.

locals {
  tags = merge(var.tags, {
    "nightingale:hub"      = var.hub_id
    "nightingale:instance" = var.instance_id
    "nightingale:user"     = var.owner_hash
  })
}

resource "terraform_data" "guard" {
  input = {
    directory = var.bootstrap.directory
    python    = var.image
    tags      = local.tags
  }

  provisioner "local-exec" {
    when    = destroy
    command = "exec \"$NIGHTINGALE_PYTHON\" -P -m nightingale_hub.instance.local down"
    environment = {
      NIGHTINGALE_PYTHON       = self.input.python
      NIGHTINGALE_INSTANCE_DIR = self.input.directory
    }
  }
}

resource "terraform_data" "instance" {
  input = {
    tags = local.tags
  }

  provisioner "local-exec" {
    command = "exec \"$NIGHTINGALE_PYTHON\" -P -m nightingale_hub.instance.local up"
    environment = {
      NIGHTINGALE_PYTHON       = var.image
      NIGHTINGALE_INSTANCE_DIR = var.bootstrap.directory
      NIGHTINGALE_HOME_DIR     = var.home_ref.path
    }
  }

  depends_on = [terraform_data.guard]
}

# A new size replaces this resource and leaves the instance itself running.
resource "terraform_data" "size" {
  input = {
    tags = local.tags
  }
  triggers_replace = [var.size]

  provisioner "local-exec" {
    command = "exec \"$NIGHTINGALE_PYTHON\" -P -m nightingale_hub.instance.local size"
    environment = {
      NIGHTINGALE_PYTHON       = var.image
      NIGHTINGALE_INSTANCE_DIR = var.bootstrap.directory
      NIGHTINGALE_VCPUS        = var.size.vcpus
    }
  }

  depends_on = [terraform_data.guard]
}
