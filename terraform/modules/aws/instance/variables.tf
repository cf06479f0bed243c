variable "instance_id" {
  description = "The instance's id in the hub's record."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,62}$", var.instance_id))
    error_message = "An instance_id is 1 to 63 of a-z, 0-9 and -, and begins with a letter or a digit."
  }
}

variable "hub_id" {
  description = "Name of the hub that owns what is made."
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
  description = "Region of the cloud."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9-]{1,40}$", var.region))
    error_message = "A region is 1 to 40 of a-z, 0-9 and -."
  }
}

variable "size" {
  description = "Instance type, and what it gives. A change of the type keeps the instance and its home."
  type = object({
    type     = string
    vcpus    = number
    gpu      = string
    disk_gib = number
  })

  validation {
    condition     = can(regex("^[a-z0-9-]+[.][a-z0-9-]+$", var.size.type))
    error_message = "The type of a size is one of EC2, such as g5.xlarge."
  }

  validation {
    condition     = var.size.vcpus >= 1 && var.size.disk_gib >= 1
    error_message = "A size has at least 1 vCPU and 1 GiB of disk."
  }
}

variable "image" {
  description = "What the instance starts from, in the cloud's own words."
  type        = string

  validation {
    condition     = can(regex("^ami-[0-9a-f]+$", var.image))
    error_message = "An image is ami- and hexadecimal digits."
  }
}

variable "network_ref" {
  description = "Where it is put: what the network says of itself."
  type = object({
    id       = string
    subnets  = map(string)
    cidr     = string
    firewall = string
    storage  = string
    group    = string
  })
}

variable "home_ref" {
  description = "The owner's home: what it says of itself. It outlives the instance, and pins the zone."
  type = object({
    id      = string
    zone    = string
    address = string
    path    = string
  })
}

variable "datasets" {
  description = "What is attached to be read and never written: what each dataset says of itself."
  type = list(object({
    name    = string
    kind    = string
    address = string
    path    = string
    disks   = map(string)
  }))
  default = []

  validation {
    condition     = alltrue([for each in var.datasets : each.kind == "nfs" && can(regex("^[a-z0-9][a-z0-9-]{0,62}$", each.name))])
    error_message = "Each dataset is of kind nfs here, and has a name of a-z, 0-9 and -."
  }
}

variable "bootstrap" {
  description = "What the first boot needs: the hub's address and a nonce that is dead after one use."
  type        = map(string)

  validation {
    condition     = alltrue([for name in keys(var.bootstrap) : can(regex("^[a-z_]+$", name))])
    error_message = "Names in bootstrap are a-z and _."
  }
}

variable "spot" {
  description = "Whether to run on capacity that the cloud may take back; cheaper."
  type        = bool
  default     = false
}

variable "tags" {
  description = "More tags for every resource; the hub and what it is for are always there."
  type        = map(string)
  default     = {}
}
