output "network_ref" {
  description = "What an instance needs to be put into the network."
  value = {
    id       = azurerm_virtual_network.network.id
    subnets  = { for zone in var.zones : zone => azurerm_subnet.zone.id }
    cidr     = var.cidr
    firewall = azurerm_network_security_group.instance.id
    storage  = ""
    group    = var.group
  }
  # Nothing is put into the subnet before its rules hold.
  depends_on = [
    azurerm_subnet_network_security_group_association.instance,
    azurerm_network_security_rule.hub_in,
    azurerm_network_security_rule.hub_out,
    azurerm_network_security_rule.none_in,
    azurerm_network_security_rule.none_out,
  ]
}
