terraform {
  # terraform_data is built in from 1.4 on; OpenTofu has it from its first release.
  required_version = ">= 1.4"
}
