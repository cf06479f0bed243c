variable "instance_id" {
  description = "The instance's id in the hub's record."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,62}$", var.instance_id))
    error_message = "An instance_id is 1 to 63 of a-z, 0-9 and -, and begins with a letter or a digit."
  }
}

variable "hub_id" {
  description = "Name of the hub that owns the instance."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,62}$", var.hub_id))
    error_message = "A hub_id is 1 to 63 of a-z, 0-9 and -, and begins with a letter or a digit."
  }
}

variable "owner_hash" {
  description = "Stands for the owner wherever a name would say too much."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{8,64}$", var.owner_hash))
    error_message = "An owner_hash is 8 to 64 hexadecimal digits."
  }
}

variable "region" {
  description = "Region of the cloud; this machine is the only one here."
  type        = string
  default     = "here"
}

variable "size" {
  description = "Instance type, and what it gives. A change is applied to the instance as it runs."
  type = object({
    type     = string
    vcpus    = number
    gpu      = string
    disk_gib = number
  })

  validation {
    condition     = var.size.vcpus >= 1 && var.size.disk_gib >= 1
    error_message = "A size has at least 1 vCPU and 1 GiB of disk."
  }
}

variable "directory" {
  description = "The instance's own directory on this machine, made by the hub before the apply."
  type        = string

  validation {
    condition     = startswith(var.directory, "/")
    error_message = "The directory is an absolute path."
  }
}

variable "home" {
  description = "The owner's home directory on this machine; outlives the instance."
  type        = string

  validation {
    condition     = startswith(var.home, "/")
    error_message = "The home is an absolute path."
  }
}

variable "python" {
  description = "Interpreter that has nightingale_hub, by absolute path."
  type        = string

  validation {
    condition     = startswith(var.python, "/")
    error_message = "The python is an absolute path."
  }
}

variable "tags" {
  description = "More tags for every resource, such as the server; hub, instance and user are always there."
  type        = map(string)
  default     = {}
}
