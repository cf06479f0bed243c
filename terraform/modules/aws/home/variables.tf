variable "home_id" {
  description = "The home's id in the hub's record."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,62}$", var.home_id))
    error_message = "A home_id is 1 to 63 of a-z, 0-9 and -, and begins with a letter or a digit."
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

variable "zones" {
  description = "Zones of the region that may be used, the preferred one first."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 1 && alltrue([for zone in var.zones : can(regex("^[a-z0-9-]{1,40}$", zone))])
    error_message = "There is at least one zone, each 1 to 40 of a-z, 0-9 and -."
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

variable "disk_gib" {
  description = "Size of the home. It can grow, never shrink."
  type        = number

  validation {
    condition     = var.disk_gib >= 1 && var.disk_gib <= 65536 && floor(var.disk_gib) == var.disk_gib
    error_message = "A disk_gib is a whole number from 1 to 65536."
  }
}

variable "tags" {
  description = "More tags for every resource; the hub and what it is for are always there."
  type        = map(string)
  default     = {}
}
