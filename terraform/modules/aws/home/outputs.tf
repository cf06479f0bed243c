output "home_ref" {
  description = "What an instance needs to have the home."
  value = {
    id      = aws_ebs_volume.home.id
    zone    = aws_ebs_volume.home.availability_zone
    address = ""
    path    = ""
  }
}
