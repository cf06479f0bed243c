variables {
  instance_id = "i-0123456789ab"
  hub_id      = "test"
  owner_hash  = "0123456789abcdef"
  region      = "europe-west4"
  size        = { type = "n1-standard-4+1xT4", vcpus = 4, gpu = "S", disk_gib = 50 }
  image       = "projects/p/global/images/nightingale"
  home_ref    = { id = "home", zone = "europe-west4-a", address = "10.64.128.4", path = "/home" }
  datasets    = [{ name = "ecg", kind = "disk", address = "10.64.128.5", path = "/ecg", disks = { "europe-west4-a" = "source-a" } }]
  bootstrap   = { hub_url = "https://hub.example/", nonce = "n" }
  tags        = { "nightingale:server-hash" = "abc" }
  network_ref = {
    id       = "network"
    subnets  = { "europe-west4-a" = "subnet-a", "europe-west4-b" = "subnet-b" }
    cidr     = "10.64.0.0/16"
    firewall = "nightingale-0123456789ab@nightingale-test.iam.gserviceaccount.com"
    storage  = "storage"
    group    = "nightingale-test"
  }
}

run "the_instance_is_closed" {
  command = apply

  assert {
    condition     = alltrue([for each in google_compute_instance.instance.network_interface : length(each.access_config) == 0 && length(each.ipv6_access_config) == 0])
    error_message = "It has no public address."
  }

  assert {
    condition     = google_compute_instance.instance.shielded_instance_config[0].enable_secure_boot && google_compute_instance.instance.shielded_instance_config[0].enable_vtpm
    error_message = "It boots what is signed."
  }

  assert {
    condition     = google_compute_instance.instance.metadata["block-project-ssh-keys"] == "TRUE" && google_compute_instance.instance.metadata["serial-port-enable"] == "FALSE"
    error_message = "Nobody logs in."
  }

  assert {
    condition     = google_compute_instance.instance.attached_disk[1].mode == "READ_ONLY" && google_compute_instance.instance.attached_disk[0].mode == "READ_WRITE"
    error_message = "Datasets are read-only."
  }

  assert {
    condition     = google_compute_instance.instance.machine_type == "n1-standard-4" && google_compute_instance.instance.guest_accelerator[0].type == "nvidia-tesla-t4" && google_compute_instance.instance.guest_accelerator[0].count == 1
    error_message = "A GPU that is added is told apart from the type."
  }

  assert {
    condition     = keys(jsondecode(google_compute_instance.instance.metadata["nightingale"])) == ["datasets", "hub_url", "nonce"]
    error_message = "It is told the hub, its nonce and its datasets."
  }
}

run "a_gpu_that_is_built_in_is_not_added" {
  command = plan

  variables {
    size = { type = "g2-standard-4", vcpus = 4, gpu = "S", disk_gib = 50 }
  }

  assert {
    condition     = length(google_compute_instance.instance.guest_accelerator) == 0 && google_compute_instance.instance.machine_type == "g2-standard-4"
    error_message = "The type has its GPU built in."
  }
}

run "a_type_that_is_none_is_refused" {
  command = plan

  variables {
    size = { type = "; rm -rf /", vcpus = 1, gpu = "none", disk_gib = 1 }
  }

  expect_failures = [var.size]
}

run "an_image_that_is_none_is_refused" {
  command = plan

  variables {
    image = "latest"
  }

  expect_failures = [var.image]
}

run "a_dataset_of_another_kind_is_refused" {
  command = plan

  variables {
    datasets = [{ name = "ecg", kind = "bucket", address = "", path = "", disks = {} }]
  }

  expect_failures = [var.datasets]
}
