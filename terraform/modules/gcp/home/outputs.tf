output "home_ref" {
  description = "What an instance needs to have the home."
  value = {
    id      = google_compute_disk.home.id
    zone    = google_compute_disk.home.zone
    address = ""
    path    = ""
  }
}
