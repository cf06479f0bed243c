output "cloud_id" {
  description = "The instance's id in its cloud."
  value       = "local/${var.instance_id}"
  depends_on  = [terraform_data.instance]
}

output "private_ip" {
  description = "Address at which the hub reaches the instance; its port comes with its bootstrap."
  value       = "127.0.0.1"
  depends_on  = [terraform_data.instance]
}

output "zone" {
  description = "Where in the region the instance is."
  value       = var.region
}

output "home_id" {
  description = "The home's id in its cloud; it outlives the instance."
  value       = var.home
}

output "state" {
  description = "The state that the instance was left in."
  value       = "running"
  depends_on  = [terraform_data.instance, terraform_data.size]
}
