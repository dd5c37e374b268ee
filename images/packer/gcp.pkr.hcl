# An image of Google Compute Engine with everything that a machine of fleet needs. `fleet bake gcp` runs it; by hand:
#   packer build -var package=DIRECTORY -var manifest=FILE -var name=NAME -var project=PROJECT -var zone=us-central1-a gcp.pkr.hcl
# Packer 1.7 and newer want plugins, which `fleet bake` names from ../versions.toml. Credentials are application default ones.

variable "package" {
  type        = string
  description = "The directory that `fleet bake` fills: scripts, units, pinned lists, the wheel."
}

variable "manifest" {
  type        = string
  description = "Where Packer writes the image's id."
}

variable "project" {
  type = string
}

variable "zone" {
  type = string
}

variable "source_image" {
  type        = string
  default     = ""
  description = "An image to begin with. Without one: the newest of the family."
}

variable "source_family" {
  type    = string
  default = ""
}

variable "source_projects" {
  type    = list(string)
  default = []
}

variable "machine_type" {
  type        = string
  default     = "e2-standard-4"
  description = "GPU software is installed on a machine without a GPU too: none is paid for."
}

variable "network" {
  type    = string
  default = ""
}

variable "subnetwork" {
  type    = string
  default = ""
}

variable "family" {
  type        = string
  default     = "fleet"
  description = "Of the new image."
}

variable "disk_gib" {
  type    = number
  default = 50
}

variable "gpu" {
  type        = string
  default     = "1"
  description = "Empty: without driver and container toolkit."
}

variable "image" {
  type        = string
  default     = ""
  description = "The container image to have at hand."
}

variable "name" {
  type = string
}

variable "labels" {
  type    = map(string)
  default = {}
}

source "googlecompute" "machine" {
  project_id              = var.project
  zone                    = var.zone
  source_image            = var.source_image
  source_image_family     = var.source_family
  source_image_project_id = var.source_projects
  machine_type            = var.machine_type
  network                 = var.network
  subnetwork              = var.subnetwork
  disk_size               = var.disk_gib
  communicator            = "ssh"
  ssh_username            = "packer"
  image_name              = var.name
  image_family            = var.family
  image_labels            = var.labels
  # Not the label of the cluster: its dispatcher would take the machine for one of its own that it has lost, and end it.
  labels = {
    "fleet-bake" = var.name
  }
}

build {
  sources = ["source.googlecompute.machine"]

  provisioner "shell" {
    inline = ["[ ! -d /run/systemd/system ] || timeout 300 cloud-init status --wait >/dev/null || true", "rm -rf /tmp/fleet-package && mkdir -p /tmp/fleet-package"]
  }
  provisioner "file" {
    source      = "${var.package}/"
    destination = "/tmp/fleet-package"
  }
  provisioner "shell" {
    inline = [
      "sudo rm -rf /opt/fleet-package && sudo cp -r /tmp/fleet-package /opt/fleet-package && sudo chown -R root:root /opt/fleet-package",
      "sudo env FLEET_GPU=${var.gpu} FLEET_CPU_ONLY=${var.gpu == "" ? "1" : ""} FLEET_IMAGE=${var.image} bash /opt/fleet-package/provision/run.sh bake",
    ]
  }

  post-processor "manifest" {
    output = var.manifest
  }
}
