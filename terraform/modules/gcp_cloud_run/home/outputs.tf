output "home_ref" {
  description = "What an instance needs to have the home."
  value = {
    id      = google_netapp_volume.home.id
    zone    = google_netapp_volume.home.location
    address = split(":", google_netapp_volume.home.mount_options[0].export_full)[0]
    path    = split(":", google_netapp_volume.home.mount_options[0].export_full)[1]
  }
}
