"""The endpoints of the API, one file a service; `ENDPOINTS` in each names them."""
