variables {
  hub_id    = "test"
  region    = "europe-west4"
  zones     = ["europe-west4-a", "europe-west4-b"]
  group     = "nightingale-test"
  hub_cidrs = ["10.0.0.0/24"]
}

run "nothing_but_the_hub_and_the_data_is_reached" {
  command = apply

  assert {
    condition     = one(google_compute_firewall.none_out.deny).protocol == "all" && google_compute_firewall.none_out.direction == "EGRESS" && google_compute_firewall.none_out.destination_ranges == toset(["0.0.0.0/0"])
    error_message = "All that is not allowed is denied on its way out."
  }

  assert {
    condition     = length(coalesce(google_compute_firewall.none_out.target_tags, [])) == 0 && length(coalesce(google_compute_firewall.none_out.target_service_accounts, [])) == 0
    error_message = "The denial holds for all that is in the network."
  }

  assert {
    condition     = google_compute_firewall.hub_out.priority < google_compute_firewall.none_out.priority && google_compute_firewall.none_out.priority < 65535
    error_message = "The denial comes after what is allowed, and before what Google Cloud allows by itself."
  }

  assert {
    condition     = google_compute_firewall.hub_out.destination_ranges == toset(["10.0.0.0/24"])
    error_message = "Egress is to the hub and the data alone."
  }

  assert {
    condition     = google_compute_network.network.delete_default_routes_on_create
    error_message = "There is no route to the internet."
  }

  assert {
    condition     = !google_compute_subnetwork.zone.private_ip_google_access
    error_message = "The APIs of Google are not reached: a bucket of anybody's is one of them."
  }
}

run "the_whole_internet_is_refused" {
  command = plan

  variables {
    hub_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.hub_cidrs]
}
