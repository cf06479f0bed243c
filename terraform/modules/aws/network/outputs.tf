output "network_ref" {
  description = "What an instance needs to be put into the network."
  value = {
    id       = aws_vpc.network.id
    subnets  = { for zone, subnet in aws_subnet.zone : zone => subnet.id }
    cidr     = var.cidr
    firewall = aws_security_group.instance.id
    storage  = aws_security_group.dataset.id
    group    = var.group
  }
}
