output "network_ref" {
  description = "What an instance needs to be put into the network, by zone."
  value = {
    security_group = aws_security_group.instance.id
    subnets        = { for zone, subnet in aws_subnet.zone : zone => subnet.id }
  }
}
