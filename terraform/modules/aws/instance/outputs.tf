output "cloud_id" {
  description = "The instance's id in its cloud."
  value       = aws_instance.instance.id
}

output "private_ip" {
  description = "Address at which the hub reaches the instance; its port comes with its bootstrap."
  value       = aws_instance.instance.private_ip
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
