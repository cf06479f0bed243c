output "network_ref" {
  description = "What an instance needs to be put into the network."
  value = {
    id       = "loopback"
    subnets  = { for zone in var.zones : zone => "loopback" }
    cidr     = var.cidr
    firewall = ""
    storage  = ""
    group    = var.group
  }
}
