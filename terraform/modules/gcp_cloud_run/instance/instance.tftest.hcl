variables {
  instance_id = "i-0123456789ab"
  hub_id      = "test"
  owner_hash  = "0123456789abcdef"
  region      = "europe-west4"
  size        = { type = "cpu-4-memory-16-gpu-nvidia-l4", vcpus = 4, gpu = "S", disk_gib = 50 }
  image       = "europe-docker.pkg.dev/p/r/nightingale@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  home_ref    = { id = "home", zone = "europe-west4-a", address = "10.64.128.4", path = "/home" }
  datasets    = [{ name = "ecg", kind = "nfs", address = "10.64.128.5", path = "/ecg", disks = {} }]
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
    condition     = google_cloud_run_v2_service.instance.ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    error_message = "It is not reached from the internet."
  }

  assert {
    condition     = google_cloud_run_v2_service.instance.template[0].vpc_access[0].egress == "ALL_TRAFFIC"
    error_message = "All that it sends goes through the network's rules."
  }

  assert {
    condition     = google_cloud_run_v2_service.instance.template[0].vpc_access[0].network_interfaces[0].tags == tolist(["nightingale-0123456789ab"])
    error_message = "The network's rules know it."
  }

  assert {
    condition     = google_cloud_run_v2_service.instance.template[0].volumes[1].nfs[0].read_only && !google_cloud_run_v2_service.instance.template[0].volumes[0].nfs[0].read_only
    error_message = "Datasets are read-only."
  }

  assert {
    condition     = google_cloud_run_v2_service.instance.template[0].scaling[0].min_instance_count == 1 && google_cloud_run_v2_service.instance.template[0].scaling[0].max_instance_count == 1
    error_message = "There is always one."
  }

  assert {
    condition     = google_cloud_run_v2_service.instance.template[0].containers[0].resources[0].limits["nvidia.com/gpu"] == "1" && google_cloud_run_v2_service.instance.template[0].node_selector[0].accelerator == "nvidia-l4"
    error_message = "It has its GPU."
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
