output "cloud_id" {
  description = "The instance's id in its cloud."
  value       = google_compute_instance.instance.id
  depends_on  = [google_compute_instance.instance]
}

output "identity_subject" {
  description = "How the cloud's signed word on the instance names it."
  value       = google_compute_instance.instance.instance_id
  depends_on  = [google_compute_instance.instance]
}

output "private_ip" {
  description = "Address at which the hub reaches the instance, empty where it has none; its port comes with its bootstrap."
  value       = google_compute_instance.instance.network_interface[0].network_ip
  depends_on  = [google_compute_instance.instance]
}

output "endpoint" {
  description = "URL at which the hub reaches the instance where the cloud gives one, else empty."
  value       = ""
  depends_on  = [google_compute_instance.instance]
}

output "zone" {
  description = "Where in the region the instance is."
  value       = google_compute_instance.instance.zone
}

output "home_id" {
  description = "The home's id in its cloud; it outlives the instance."
  value       = google_compute_instance.instance.attached_disk[0].source
}

output "state" {
  description = "The state that the instance was left in."
  value       = "running"
  depends_on  = [google_compute_instance.instance]
}
