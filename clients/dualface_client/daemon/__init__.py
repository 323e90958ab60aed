"""The daemon: streams that should run, kept running; an API, figures and a page to steer them."""
