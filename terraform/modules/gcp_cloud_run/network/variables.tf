variable "hub_id" {
  description = "Name of the hub that owns what is made."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,62}$", var.hub_id))
    error_message = "A hub_id is 1 to 63 of a-z, 0-9 and -, and begins with a letter or a digit."
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

variable "group" {
  description = "What the account keeps it in, made beforehand: a resource group of Azure, a project of Google Cloud, the directory of a hub on this machine; nothing on AWS."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.group))
    error_message = "The group is the id of an existing project, such as nightingale-prod."
  }
}

variable "cidr" {
  description = "Addresses of the network."
  type        = string
  default     = "10.64.0.0/16"

  validation {
    condition     = can(cidrsubnet(var.cidr, 4, 15))
    error_message = "The cidr has room for 16 subnets, such as 10.64.0.0/16."
  }
}

variable "hub_cidrs" {
  description = "Addresses that instances may reach, and that may reach them: the hub and the data."
  type        = list(string)

  validation {
    condition     = length(var.hub_cidrs) >= 1 && alltrue([for each in var.hub_cidrs : can(cidrhost(each, 0)) && !endswith(each, "/0")])
    error_message = "Each of hub_cidrs is a network such as 10.0.0.0/24, and none is the whole internet."
  }
}

variable "tags" {
  description = "More tags for every resource; the hub and what it is for are always there."
  type        = map(string)
  default     = {}
}
