# Where the instances of one hub live in a region: subnets without a way out but to the hub.

locals {
  tags = merge(var.tags, {
    "nightingale:hub"  = var.hub_id
    "nightingale:part" = "network"
  })
  name = "nightingale-${var.hub_id}-${var.region}"
}

provider "azurerm" {
  # What the subscription may use is its owner's to say, not ours to switch on.
  resource_provider_registrations = "none"

  features {}
}

resource "azurerm_virtual_network" "network" {
  name                = local.name
  resource_group_name = var.group
  location            = var.region
  address_space       = [var.cidr]
  tags                = local.tags
}

# One for all zones: a subnet of Azure spans its region.
resource "azurerm_subnet" "zone" {
  name                            = local.name
  resource_group_name             = var.group
  virtual_network_name            = azurerm_virtual_network.network.name
  address_prefixes                = [var.cidr]
  default_outbound_access_enabled = false
}

resource "azurerm_network_security_group" "instance" {
  name                = local.name
  resource_group_name = var.group
  location            = var.region
  tags                = local.tags
}

resource "azurerm_network_security_rule" "hub_in" {
  name                        = "hub-in"
  description                 = "The hub reaches an instance's server"
  resource_group_name         = var.group
  network_security_group_name = azurerm_network_security_group.instance.name
  priority                    = 100
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_address_prefixes     = var.hub_cidrs
  source_port_range           = "*"
  destination_address_prefix  = var.cidr
  destination_port_range      = "1024-65535"
}

resource "azurerm_network_security_rule" "hub_out" {
  name                         = "hub-out"
  description                  = "An instance reaches the hub and the data"
  resource_group_name          = var.group
  network_security_group_name  = azurerm_network_security_group.instance.name
  priority                     = 100
  direction                    = "Outbound"
  access                       = "Allow"
  protocol                     = "Tcp"
  source_address_prefix        = var.cidr
  source_port_range            = "*"
  destination_address_prefixes = var.hub_cidrs
  destination_port_range       = "*"
}

# Azure's own last rules let instances reach each other and the internet; these come before them.
resource "azurerm_network_security_rule" "none_in" {
  name                        = "none-in"
  description                 = "Nobody else reaches an instance, other instances included"
  resource_group_name         = var.group
  network_security_group_name = azurerm_network_security_group.instance.name
  priority                    = 4000
  direction                   = "Inbound"
  access                      = "Deny"
  protocol                    = "*"
  source_address_prefix       = "*"
  source_port_range           = "*"
  destination_address_prefix  = "*"
  destination_port_range      = "*"
}

resource "azurerm_network_security_rule" "none_out" {
  name                        = "none-out"
  description                 = "An instance reaches nothing else"
  resource_group_name         = var.group
  network_security_group_name = azurerm_network_security_group.instance.name
  priority                    = 4000
  direction                   = "Outbound"
  access                      = "Deny"
  protocol                    = "*"
  source_address_prefix       = "*"
  source_port_range           = "*"
  destination_address_prefix  = "*"
  destination_port_range      = "*"
}

resource "azurerm_subnet_network_security_group_association" "instance" {
  subnet_id                 = azurerm_subnet.zone.id
  network_security_group_id = azurerm_network_security_group.instance.id
}
