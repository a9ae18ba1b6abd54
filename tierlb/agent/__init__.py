"""For backends: a sidecar that joins the cluster for an app, and a reporter that counts inside one."""
