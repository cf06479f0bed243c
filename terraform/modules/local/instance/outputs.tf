output "cloud_id" {
  description = "The instance's id in its cloud."
  value       = "local/${var.instance_id}"
  depends_on  = [terraform_data.instance, terraform_data.size]
}

output "identity_subject" {
  description = "How the cloud's signed word on the instance names it."
  value       = "local/${var.instance_id}"
  depends_on  = [terraform_data.instance, terraform_data.size]
}

output "private_ip" {
  description = "Address at which the hub reaches the instance, empty where it has none; its port comes with its bootstrap."
  value       = "127.0.0.1"
  depends_on  = [terraform_data.instance, terraform_data.size]
}

output "endpoint" {
  description = "URL at which the hub reaches the instance where the cloud gives one, else empty."
  value       = ""
  depends_on  = [terraform_data.instance, terraform_data.size]
}

output "zone" {
  description = "Where in the region the instance is."
  value       = var.home_ref.zone
}

output "home_id" {
  description = "The home's id in its cloud; it outlives the instance."
  value       = var.home_ref.path
}

output "state" {
  description = "The state that the instance was left in."
  value       = "running"
  depends_on  = [terraform_data.instance, terraform_data.size]
}
