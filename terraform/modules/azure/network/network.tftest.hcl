variables {
  hub_id    = "test"
  region    = "westeurope"
  zones     = ["1", "2"]
  group     = "nightingale"
  hub_cidrs = ["10.0.0.0/24"]
}

run "nothing_but_the_hub_is_reached" {
  command = apply

  assert {
    condition     = azurerm_network_security_rule.none_out.access == "Deny" && azurerm_network_security_rule.none_out.direction == "Outbound" && azurerm_network_security_rule.none_out.protocol == "*" && azurerm_network_security_rule.none_out.destination_address_prefix == "*" && azurerm_network_security_rule.none_out.destination_port_range == "*"
    error_message = "All that is not allowed is denied on its way out."
  }

  assert {
    condition     = azurerm_network_security_rule.none_in.access == "Deny" && azurerm_network_security_rule.none_in.direction == "Inbound" && azurerm_network_security_rule.none_in.source_address_prefix == "*"
    error_message = "All that is not allowed is denied on its way in."
  }

  assert {
    condition     = azurerm_network_security_rule.none_out.priority < 65000 && azurerm_network_security_rule.none_in.priority < 65000
    error_message = "The denials come before what Azure allows by itself."
  }

  assert {
    condition     = azurerm_network_security_rule.hub_out.destination_address_prefixes == toset(["10.0.0.0/24"])
    error_message = "Egress is to the hub alone."
  }

  assert {
    condition     = azurerm_subnet.zone.default_outbound_access_enabled == false
    error_message = "The subnet has no way out of its own."
  }

  assert {
    condition     = azurerm_subnet_network_security_group_association.instance.subnet_id == azurerm_subnet.zone.id
    error_message = "The rules hold for the subnet."
  }
}

run "the_whole_internet_is_refused" {
  command = plan

  variables {
    hub_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.hub_cidrs]
}
