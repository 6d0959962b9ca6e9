"""In INSTALLED_APPS of a site, has its calls fail and its clock lie."""
