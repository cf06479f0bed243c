output "cloud_id" {
  description = "The instance's id in its cloud."
  value       = google_cloud_run_v2_service.instance.id
  depends_on  = [google_cloud_run_v2_service.instance]
}

output "identity_subject" {
  description = "How the cloud's signed word on the instance names it."
  value       = var.network_ref.firewall
  depends_on  = [google_cloud_run_v2_service.instance]
}

output "private_ip" {
  description = "Address at which the hub reaches the instance, empty where it has none; its port comes with its bootstrap."
  value       = ""
  depends_on  = [google_cloud_run_v2_service.instance]
}

output "endpoint" {
  description = "URL at which the hub reaches the instance where the cloud gives one, else empty."
  value       = google_cloud_run_v2_service.instance.uri
  depends_on  = [google_cloud_run_v2_service.instance]
}

output "zone" {
  description = "Where in the region the instance is."
  value       = var.home_ref.zone
}

output "home_id" {
  description = "The home's id in its cloud; it outlives the instance."
  value       = var.home_ref.id
}

output "state" {
  description = "The state that the instance was left in."
  value       = "running"
  depends_on  = [google_cloud_run_v2_service.instance]
}
