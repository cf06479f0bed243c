output "cloud_id" {
  description = "The instance's id in its cloud."
  value       = aws_instance.instance.id
}

output "identity_subject" {
  description = "How the cloud's signed word on the instance names it."
  value       = aws_instance.instance.id
}

output "private_ip" {
  description = "Address at which the hub reaches the instance, empty where it has none; its port comes with its bootstrap."
  value       = aws_instance.instance.private_ip
}

output "endpoint" {
  description = "URL at which the hub reaches the instance where the cloud gives one, else empty."
  value       = ""
}

output "zone" {
  description = "Where in the region the instance is."
  value       = aws_instance.instance.availability_zone
}

output "home_id" {
  description = "The home's id in its cloud; it outlives the instance."
  value       = aws_volume_attachment.home.volume_id
}

output "state" {
  description = "The state that the instance was left in."
  value       = aws_instance.instance.instance_state
}
