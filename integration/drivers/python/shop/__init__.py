"""An application of Django for `django_migrate.py`."""
