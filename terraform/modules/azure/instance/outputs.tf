output "cloud_id" {
  description = "The instance's id in its cloud."
  value       = azurerm_linux_virtual_machine.instance.id
  depends_on  = [azurerm_linux_virtual_machine.instance]
}

output "identity_subject" {
  description = "How the cloud's signed word on the instance names it."
  value       = azurerm_linux_virtual_machine.instance.virtual_machine_id
  depends_on  = [azurerm_linux_virtual_machine.instance]
}

output "private_ip" {
  description = "Address at which the hub reaches the instance, empty where it has none; its port comes with its bootstrap."
  value       = azurerm_network_interface.instance.private_ip_address
  depends_on  = [azurerm_linux_virtual_machine.instance]
}

output "endpoint" {
  description = "URL at which the hub reaches the instance where the cloud gives one, else empty."
  value       = ""
  depends_on  = [azurerm_linux_virtual_machine.instance]
}

output "zone" {
  description = "Where in the region the instance is."
  value       = azurerm_linux_virtual_machine.instance.zone
}

output "home_id" {
  description = "The home's id in its cloud; it outlives the instance."
  value       = azurerm_virtual_machine_data_disk_attachment.home.managed_disk_id
}

output "state" {
  description = "The state that the instance was left in."
  value       = "running"
  depends_on  = [azurerm_linux_virtual_machine.instance]
}
